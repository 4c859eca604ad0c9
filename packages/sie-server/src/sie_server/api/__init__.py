"""What clients ask: the native routes, OpenAI's and Cohere's, and what describes the server."""
