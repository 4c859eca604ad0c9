"""What a model id of a request stands for."""

from dataclasses import dataclass, replace

from sie_server.catalog.catalog import Entry, Profile, address
from sie_server.options import LongDocuments
from sie_server.residency.slot import Slot


@dataclass(frozen=True)
class ModelAddress:
    """A model, and what a request to it means where it says nothing.

    name: the profile in the id, "default" where there is none; a request's options may have chosen another `profile`.
    """

    slot: Slot
    name: str
    profile: Profile

    @property
    def id(self) -> str:
        """As configured."""
        return address(self.slot.entry.id, self.name)

    @property
    def long_documents(self) -> LongDocuments:
        """What becomes of a document that does not fit, where a request does not say."""
        return self.profile.long_documents or self.slot.entry.long_documents

    @property
    def entry(self) -> Entry:
        """The model as if the profile were one of its own, as far as it is known."""
        entry, profile = self.slot.entry, self.profile
        kept = profile.output_types and ("score", *profile.output_types)
        limits = [limit for limit in (profile.max_seq_length, entry.max_length) if limit is not None]
        return replace(
            entry,
            id=self.id,
            outputs=entry.outputs and tuple(output for output in entry.outputs if not kept or output in kept),
            max_length=min(limits, default=None),
            long_documents=self.long_documents,
        )
