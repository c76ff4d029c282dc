"""Certificates: proofs about samples. None ships yet; `@robustvit.certificate` adds one."""
