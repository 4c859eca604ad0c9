import litellm

documents = ["Snakes are reptiles.", "Python is a programming language."]
answer = litellm.rerank(
    model="hosted_vllm/BAAI/bge-reranker-v2-m3",
    query="What is Python?",
    documents=documents,
    api_base="http://localhost:8080",
    api_key="KEY",
)
for result in answer.results:
    print(documents[result["index"]], result["relevance_score"])
