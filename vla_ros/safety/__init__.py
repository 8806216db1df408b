"""Safety layer between policy and motors: watchdogs, state machine, filters, envelope. Never imports torch."""
