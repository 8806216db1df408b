"""What stands between a policy and the motors: watchdogs, state machine, filter, envelope. Never imports torch."""
