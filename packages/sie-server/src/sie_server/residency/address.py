"""The names by which requests address models: `id` or `id:profile`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sie_server.catalog.catalog import Entry, Profile, address, did_you_mean
from sie_server.errors import Code, SIEError
from sie_server.options import LongDocuments
from sie_server.residency.slot import Slot

# Maximum number of characters of a model or profile name that an error repeats.
_MAX_NAME = 500


@dataclass(frozen=True)
class ModelAddress:
    """A model and the profile with a request's default options.

    id: of the model with the profile in its name; a request's options may select another `profile`.
    """

    slot: Slot
    id: str
    profile: Profile

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


class ModelNames:
    """The names of the models in `slots`, which are by model id, and of their profiles.

    aliases: other names, with the `id` or `id:profile` that each stands for.
    """

    def __init__(self, slots: Mapping[str, Slot], aliases: Mapping[str, str]) -> None:
        self._slots = slots
        self.aliases = aliases

    def __iter__(self) -> Iterator[ModelAddress]:
        """All models, each followed by its profiles other than the default."""
        for slot in self._slots.values():
            for name, profile in slot.entry.every_profile.items():
                yield ModelAddress(slot, address(slot.entry.id, name), profile)

    def resolve(self, name: str, profile: str | None = None) -> ModelAddress:
        """The model and profile of an `id` or `id:profile`, where `profile` wins over the one in the name.

        Raises:
            SIEError: MODEL_NOT_FOUND, with up to three similar names; INVALID_INPUT, the model has no such `profile`.
        """
        name = self.aliases.get(name, name)
        slot, own = self._split(name)
        if slot is None:
            raise self.not_found(name)
        profiles = slot.entry.every_profile
        chosen = own if profile is None else profile
        if chosen not in profiles:
            shown = chosen[:_MAX_NAME]
            raise SIEError(Code.INVALID_INPUT, f"Profile '{shown}' not found. Available: {list(profiles)}")
        return ModelAddress(slot, slot.entry.id if own == "default" else name, profiles[chosen])

    def model_id(self, name: str) -> str | None:
        """The model id of an `id` or `id:profile`; None if there is no such model or profile."""
        slot, _ = self._split(self.aliases.get(name, name))
        return None if slot is None else slot.entry.id

    def not_found(self, name: str) -> SIEError:
        """The error for a name that no model has, with up to three similar ones, and its model's profiles."""
        message = f"Model '{name[:_MAX_NAME]}' not found"
        message += did_you_mean(name, [*(address.id for address in self), *self.aliases])
        model_id, _, _ = name.rpartition(":")
        if (slot := self._slots.get(model_id)) is not None:
            message += f" Profiles of '{model_id}': {', '.join(slot.entry.every_profile)}"
            message += f"; outputs: {', '.join(slot.entry.outputs)}" if slot.entry.outputs else ""
        return SIEError(Code.MODEL_NOT_FOUND, message)

    def _split(self, name: str) -> tuple[Slot | None, str]:
        """The slot and the profile's name; no slot if there is no such model or profile."""
        if (slot := self._slots.get(name)) is not None:
            return slot, "default"
        model_id, _, profile = name.rpartition(":")
        slot = self._slots.get(model_id)
        return (None if slot is None or profile not in slot.entry.every_profile else slot), profile
