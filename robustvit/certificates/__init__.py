"""Certificates: proofs that nothing in a threat model changes a prediction."""
