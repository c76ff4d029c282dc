"""Certificates: answers that nothing in a threat model can change."""
