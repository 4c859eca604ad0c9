// The sum of a token's embeddings on a CPU: the interface.
#pragma once

#include <cstdint>

// A table of embeddings, and the row of it for each token.
struct EmbeddingTable {
    const void* weights;  // [count, width], bfloat16 or float32
    const int32_t* rows;  // [tokens]; null: each token's position in its sequence
    int64_t count;
    int32_t bfloat16;
};

struct EmbeddingSumArguments {
    const EmbeddingTable* tables;  // summed in this order
    float* y;                      // [tokens, width]
    const int32_t* starts;         // of sequences, ending with the number of tokens: [sequences + 1]
    int32_t table_count, sequences, width;
};
