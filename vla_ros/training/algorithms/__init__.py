"""Learning methods: behavioral cloning, DAgger, preferences, adaptation."""
