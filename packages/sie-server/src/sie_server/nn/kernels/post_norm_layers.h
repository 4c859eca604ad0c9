// A BERT-like encoder on a CPU, embeddings included, in one call: the interface.
#pragma once

#include <cstdint>

#include "embedding_sum.h"
#include "linear.h"
#include "norm_rotary.h"

// Self-attention and an MLP, each followed by the sum with its input and by a LayerNorm. The arguments have what is the
// same for every call: weights, sizes, dtypes of the results. levels: of qkv, attention_out, up and down.
struct PostNormLayer {
    LinearArguments qkv, attention_out, up, down;
    NormRotaryArguments attention_norm, mlp_norm;
    int32_t levels[4];
};

struct PostNormLayersArguments {
    const EmbeddingTable* tables;  // of the embeddings, which fill x; null: x has the input of the first layer
    const PostNormLayer* layers;
    const int32_t* starts;  // cu_seqlens, [sequences + 1]
    float* x;               // [tokens, hidden], overwritten by the result: [tokens, hidden], or with `first_only`
                            // [sequences, hidden], of each sequence's first token
    void* wide;             // scratch: [tokens, the most outputs of qkv and up], in their dtypes
    void* attended;         // scratch: [tokens, hidden], in the dtype of qkv's results
    float* sum;             // scratch: [tokens, hidden]
    int32_t* queries;       // scratch: [sequences + 1]
    NormRotaryArguments embedding_norm;  // what is the same for every call
    int32_t table_count, count, sequences, heads, head_dim, first_only, vector_level;
};
