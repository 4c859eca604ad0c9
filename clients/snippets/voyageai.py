import voyageai

client = voyageai.Client("KEY", base_url="http://localhost:8080/voyage/v1")
documents = ["Snakes are reptiles.", "Python is a programming language."]
answer = client.rerank("What is Python?", documents, "BAAI/bge-reranker-v2-m3", top_k=2)
for result in answer.results:
    print(result.document, result.relevance_score)
