from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

ranker = HuggingFaceTEIRanker(url="http://localhost:8080", token=Secret.from_token("KEY"))
documents = [Document(content="Snakes are reptiles."), Document(content="Python is a programming language.")]
for document in ranker.run(query="What is Python?", documents=documents)["documents"]:
    print(document.content, document.score)
