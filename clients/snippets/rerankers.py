from rerankers import Reranker

ranker = Reranker(
    "BAAI/bge-reranker-v2-m3",
    model_type="jina",
    api_key="KEY",
    url="http://localhost:8080/jina/v1/rerank",
    verbose=0,
)
answer = ranker.rank("What is Python?", ["Snakes are reptiles.", "Python is a programming language."])
for result in answer.results:
    print(result.text, result.score)
