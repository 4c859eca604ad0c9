import cohere

client = cohere.ClientV2("KEY", base_url="http://localhost:8080")
documents = ["Snakes are reptiles.", "Python is a programming language."]
answer = client.rerank(model="BAAI/bge-reranker-v2-m3", query="What is Python?", documents=documents)
for result in answer.results:
    print(documents[result.index], result.relevance_score)
