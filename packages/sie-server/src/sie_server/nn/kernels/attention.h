// Softmax attention over packed sequences on a CPU: the interface of the kernel's variants, one per instruction set.
#pragma once

#include <cstdint>

// Tensors: q [queries, heads, head_dim]; k and v [keys, kv_heads, head_dim]; out like q. The last dimension is
// contiguous, the last two of out; strides are in elements. q and k share one dtype, v and out another: bfloat16 or
// float32. Query i of a sequence is at position i; with `causal`, the last query is at the position of the last key. A
// query attends to keys at most `window` positions away (-1: to all), and with `causal` to none after its own position.
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

// attention.cpp, compiled once per instruction set. Returns 0, or 1 if memory can't be allocated.
int attention_portable(const AttentionArguments&);
#ifdef __x86_64__
int attention_avx2(const AttentionArguments&);
int attention_avx512(const AttentionArguments&);
// Products in integers of 16 bits.
int attention_avx512_vnni(const AttentionArguments&);
// Products in bfloat16, summed in float32.
int attention_avx512_bf16(const AttentionArguments&);
int attention_amx(const AttentionArguments&);
#endif
