"""Settings of the kit's own tests."""

from hypothesis import settings

# Event loops and other work on the same cores take their time.
settings.register_profile("testing", parent=settings.default, deadline=None)
settings.load_profile("testing")
