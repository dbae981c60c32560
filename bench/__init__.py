"""The proof of every claim: speed, compatibility, safety.  Nothing here is part of the product."""
