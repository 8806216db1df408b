"""Why a policy did what it did."""
