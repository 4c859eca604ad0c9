"""Routes for clients: native, OpenAI's and Cohere's, and those that describe the server."""
