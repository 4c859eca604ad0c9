import openai

client = openai.OpenAI(api_key="KEY", base_url="http://localhost:8080/v1")
texts = ["Snakes are reptiles.", "Python is a programming language."]
answer = client.embeddings.create(model="BAAI/bge-m3", input=texts)
for text, embedding in zip(texts, answer.data, strict=True):
    print(text, len(embedding.embedding))
