"""What the SDK and the slot of a function share: how values travel, and what a running function can ask.

Nothing here needs more than Python itself and cloudpickle, because slots of other environments load it, too.
"""
