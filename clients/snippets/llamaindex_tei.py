from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

reranker = TextEmbeddingInference(base_url="http://localhost:8080", auth_token="KEY", top_n=2)
nodes = [
    NodeWithScore(node=TextNode(text="Snakes are reptiles.")),
    NodeWithScore(node=TextNode(text="Python is a programming language.")),
]
for node in reranker.postprocess_nodes(nodes, query_str="What is Python?"):
    print(node.get_content(), node.score)
