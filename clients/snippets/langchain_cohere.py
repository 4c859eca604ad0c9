from langchain_cohere import CohereRerank
from langchain_core.documents import Document

compressor = CohereRerank(
    model="BAAI/bge-reranker-v2-m3", cohere_api_key="KEY", base_url="http://localhost:8080", top_n=2
)
documents = [Document("Snakes are reptiles."), Document("Python is a programming language.")]
for document in compressor.compress_documents(documents, "What is Python?"):
    print(document.page_content, document.metadata["relevance_score"])
