"""Model ids of requests."""

from dataclasses import dataclass, replace

from sie_server.catalog.catalog import Entry, Profile, address
from sie_server.options import LongDocuments
from sie_server.residency.slot import Slot


@dataclass(frozen=True)
class ModelAddress:
    """A model and the profile with a request's default options.

    name: the profile in the id, "default" if there is none; a request's options may select another `profile`.
    """

    slot: Slot
    name: str
    profile: Profile

    @property
    def id(self) -> str:
        """The id with its profile."""
        return address(self.slot.entry.id, self.name)

    @property
    def long_documents(self) -> LongDocuments:
        """Default treatment of documents over the length limit."""
        return self.profile.long_documents or self.slot.entry.long_documents

    @property
    def entry(self) -> Entry:
        """The model's entry with the profile applied, as far as it is known before the load."""
        entry, profile = self.slot.entry, self.profile
        selected = profile.output_types and ("score", *profile.output_types)
        limits = [limit for limit in (profile.max_seq_length, entry.max_length) if limit is not None]
        return replace(
            entry,
            id=self.id,
            outputs=entry.outputs and tuple(output for output in entry.outputs if not selected or output in selected),
            max_length=min(limits, default=None),
            long_documents=self.long_documents,
        )
