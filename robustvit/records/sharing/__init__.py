"""What processes that compute into one store know of each other: leases, failures, and the clock that they have in common."""
