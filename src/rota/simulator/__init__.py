"""The core, the turn and the agent under a virtual clock: to try policies, to replay history, to break promises."""
