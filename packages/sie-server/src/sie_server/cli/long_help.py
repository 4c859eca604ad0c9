"""The first part of the help of commands whose modules are imported when they are run.

Their docstrings would be left out: cyclopts has the summary for the list of commands from where they are registered.
"""

RERANK = """Rank documents in files by their relevance to a query.

There are three kinds of input:

`sie-server rerank "a query" docs.txt` ranks the lines of a file.

`cat hits.jsonl | sie-server rerank` ranks the documents of each line. A line is
`{"query": "…", "documents": ["…", {"id": "…", "text": "…"}, …]}`; all of it is kept, and `ranking` is added.

`sie-server rerank --run bm25.trec --corpus corpus.jsonl --queries queries.jsonl` ranks the documents of a TREC run.

Exit status: 0, all is ranked; 1, lines failed or were skipped; 2, a flag or the input is wrong; 3, the model or the
server is not available; 130, interrupted. After each of these, --resume goes on with an incomplete --output.
"""
ENCODE = """Embed the texts in a file.

`sie-server encode texts.txt --output vectors.npy` embeds the lines of a file. If the first line is a JSON object, all
lines are, and the text of each is its field `text`.

Exit status: 0, all is embedded; 1, lines failed or were skipped; 2, a flag or the input is wrong; 3, the model or the
server is not available; 130, interrupted. After each of these, --resume goes on with an incomplete --output.
"""
EVAL = """Compare the ranking quality of models on your judged queries.

Each model reranks the same candidates of each query. They come from a run, from the order in the dataset, or else from
BM25. The table has a row for them, for every model, and for the best order of the candidates, with the speed.

With --output, each score is saved as soon as it is computed. The same command continues where a run was stopped, and
adds new models. The folder also gets results.json and report.html.

Exit status: 0, everything was evaluated; 1, a model refused queries, as the notes below the table say, or the output
can't be written; 2, a flag, the dataset or the folder is wrong; 3, a model or a server is not available; 130, it was
interrupted.
"""
