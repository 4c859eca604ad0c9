"""ELECTRA (Clark et al. 2020): BERT with narrow embeddings in small sizes and GELU in the classification head."""

from typing import ClassVar

from sie_server.models.bert import Bert


class Electra(Bert):
    renames: ClassVar[dict[str, str]] = {
        "electra.": "",
        "embeddings_project.": "embeddings.project.",
        **Bert.renames,
    }
    ignored: ClassVar[tuple[str, ...]] = (*Bert.ignored, "discriminator_predictions.")
    head_renames: ClassVar[dict[str, str]] = {"classifier.dense.": "head.dense.", "classifier.out_proj.": "head.out."}
