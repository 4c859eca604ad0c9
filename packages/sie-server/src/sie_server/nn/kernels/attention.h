// Softmax attention over packed sequences on a CPU: what the caller and the levels of instructions share.
#pragma once

#include <cstdint>

// Tensors q `[queries, heads, head_dim]`, k and v `[keys, kv_heads, head_dim]`, out as q, each dense in its last
// dimension, out in its last two; strides count elements. q and k are of one type, v and out of another: bfloat16 or
// float32. Query i of a sequence stands at position i, or under `causal` so that the last query is at the last key. It sees
// the keys at most `window` positions away (-1: all) and, under `causal`, none behind it.
struct AttentionArguments {
    const void *q, *k, *v;
    void* out;
    const int32_t *query_starts, *key_starts;  // cu_seqlens, [sequences + 1]
    int64_t q_row, q_head, k_row, k_head, v_row, v_head, out_row;
    int32_t sequences, heads, kv_heads, head_dim;
    int32_t window, causal, qk_bfloat16, v_bfloat16;
    float scale;
};

constexpr int kMaxHeadDim = 256;

// Each is attention.cpp, compiled for other instructions. 0: done; 1: no memory.
int attention_portable(const AttentionArguments&);
#ifdef __x86_64__
int attention_avx2(const AttentionArguments&);
int attention_avx512(const AttentionArguments&);
int attention_avx512_bf16(const AttentionArguments&);  // products in bfloat16, summed in float32
#endif
