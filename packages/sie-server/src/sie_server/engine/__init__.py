"""Everything that happens to a request between the wire and the device."""
