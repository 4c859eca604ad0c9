// A BERT-like encoder in one call, which gives Python's lock away once and not a dozen times per layer. The work is that
// of the kernels for its parts, so that the bits are those of a call for each of them.

#include "post_norm_layers.h"

#include <cmath>
#include <cstring>

#include "attention.h"

extern "C" {
int sie_embedding_sum(const EmbeddingSumArguments* arguments);
int sie_attention(const AttentionArguments* arguments, int level);
int sie_norm_rotary(const NormRotaryArguments* arguments, int level);
int sie_linear(const LinearArguments* arguments, int level);
}

namespace {

// Rows `starts[i]` of `from` to rows i of `to`. They may be the same: no row moves down.
void gather(const void* from, int64_t from_row, void* to, int64_t to_row, const int32_t* starts, int rows) {
    for (int i = 0; i < rows; i++)
        memmove(static_cast<char*>(to) + i * to_row, static_cast<const char*>(from) + starts[i] * from_row, to_row);
}

int linear(LinearArguments a, int level, const void* x, bool bfloat16, int64_t rows, const float* residual, void* y) {
    a.x = x;
    a.x_bfloat16 = bfloat16;
    a.x_row = a.in;
    a.rows = int32_t(rows);
    a.residual = residual;
    if (residual != nullptr) a.y_bfloat16 = 0;
    a.y = y;
    a.residual_row = a.y_row = a.out;
    return sie_linear(&a, level);
}

int norm(NormRotaryArguments a, int level, const float* x, int64_t rows, float* y) {
    a.x = x;
    a.y = y;
    a.rows = int32_t(rows);
    return sie_norm_rotary(&a, level);
}

}  // namespace

// Returns 0, 1 if memory can't be allocated, or 2 if a token's row is not in its table of embeddings.
extern "C" __attribute__((visibility("default"))) int sie_post_norm_layers(const PostNormLayersArguments* arguments) {
    const PostNormLayersArguments& a = *arguments;
    int64_t hidden = int64_t(a.heads) * a.head_dim, rows = a.starts[a.sequences];
    if (a.tables != nullptr) {
        EmbeddingSumArguments sum{a.tables, a.sum, a.starts, a.table_count, a.sequences, int32_t(hidden)};
        if (sie_embedding_sum(&sum)) return 2;
        if (norm(a.embedding_norm, a.vector_level, a.sum, rows, a.x)) return 1;
    }
    for (int i = 0; i < a.count; i++) {
        const PostNormLayer& layer = a.layers[i];
        int bfloat16 = layer.qkv.y_bfloat16, size = bfloat16 ? 2 : 4;
        if (linear(layer.qkv, layer.levels[0], a.x, false, rows, nullptr, a.wide)) return 1;

        AttentionArguments attention{};
        attention.q = a.wide;
        attention.k = static_cast<char*>(a.wide) + hidden * size;
        attention.v = static_cast<char*>(a.wide) + 2 * hidden * size;
        attention.out = a.attended;
        attention.query_starts = attention.key_starts = a.starts;
        attention.q_row = attention.k_row = attention.v_row = 3 * hidden;
        attention.q_head = attention.k_head = attention.v_head = a.head_dim;
        attention.out_row = hidden;
        attention.sequences = a.sequences;
        attention.heads = attention.kv_heads = a.heads;
        attention.head_dim = a.head_dim;
        attention.window = -1;
        attention.qk_bfloat16 = attention.v_bfloat16 = bfloat16;
        attention.scale = float(1 / std::sqrt(double(a.head_dim)));
        if (a.first_only && i == a.count - 1) {
            gather(a.wide, 3 * hidden * size, a.sum, hidden * size, a.starts, a.sequences);
            gather(a.x, hidden * 4, a.x, hidden * 4, a.starts, a.sequences);
            for (int sequence = 0; sequence <= a.sequences; sequence++) a.queries[sequence] = sequence;
            attention.q = a.sum;
            attention.q_row = hidden;
            attention.query_starts = a.queries;
            rows = a.sequences;
        }
        if (sie_attention(&attention, a.vector_level)) return 1;

        if (linear(layer.attention_out, layer.levels[1], a.attended, bfloat16, rows, a.x, a.sum)) return 1;
        if (norm(layer.attention_norm, a.vector_level, a.sum, rows, a.x)) return 1;
        if (linear(layer.up, layer.levels[2], a.x, false, rows, nullptr, a.wide)) return 1;
        if (linear(layer.down, layer.levels[3], a.wide, layer.up.y_bfloat16, rows, a.x, a.sum)) return 1;
        if (norm(layer.mlp_norm, a.vector_level, a.sum, rows, a.x)) return 1;
    }
    return 0;
}
