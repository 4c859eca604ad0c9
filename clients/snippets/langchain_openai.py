from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(
    model="BAAI/bge-m3",
    api_key="KEY",
    base_url="http://localhost:8080/v1",
    check_embedding_ctx_length=False,  # otherwise it sends token ids of OpenAI's tokenizer
)
texts = ["Snakes are reptiles.", "Python is a programming language."]
for text, vector in zip(texts, embeddings.embed_documents(texts), strict=True):
    print(text, len(vector))
