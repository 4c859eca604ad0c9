// The C interface of the kernels, and which level of instructions serves a call.

#include "attention.h"
#include "linear.h"
#include "rows.h"

#define PUBLIC extern "C" __attribute__((visibility("default")))

// Counted up with every change of an argument or of what a function means; library.py compares it with its own.
constexpr int kAbi = 3;

namespace {

enum AttentionLevel { kPortable, kAvx2, kAvx512, kAvx512Bf16 };
enum LinearLevel { kVnni = 1, kVnniBf16 };

}  // namespace

PUBLIC int sie_abi() { return kAbi; }

// The highest level of attention this processor has.
PUBLIC int sie_attention_level() {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return __builtin_cpu_supports("avx512bf16") ? kAvx512Bf16 : kAvx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
    return kPortable;
}

// 0: done; 1: no memory. `level` is at most `sie_attention_level()`.
PUBLIC int sie_attention(const AttentionArguments* arguments, int level) {
#ifdef __x86_64__
    // Where v is float32, bfloat16 products would lose what the caller asked for.
    if (level >= kAvx512Bf16 && arguments->v_bfloat16) return attention_avx512_bf16(*arguments);
    if (level >= kAvx512) return attention_avx512(*arguments);
    if (level >= kAvx2) return attention_avx2(*arguments);
#endif
    return attention_portable(*arguments);
}

// As `sie_attention`, for the norms and the rotation.
PUBLIC int sie_rows(const RowsArguments* arguments, int level) {
#ifdef __x86_64__
    if (level >= kAvx512) return rows_avx512(*arguments);
    if (level >= kAvx2) return rows_avx2(*arguments);
#endif
    return rows_portable(*arguments);
}

// What linear layers this processor can compute: 0 none, 1 those in integers, 2 those in bfloat16 too.
PUBLIC int sie_linear_level() {
#ifdef __x86_64__
    int level = sie_attention_level();
    if (level >= kAvx512 && __builtin_cpu_supports("avx512vnni")) return level == kAvx512Bf16 ? kVnniBf16 : kVnni;
#endif
    return 0;
}

// 0: done; 1: no memory. `level` is at least 1, or 2 for bfloat16, and at most `sie_linear_level()`.
PUBLIC int sie_linear(const LinearArguments* arguments, int level) {
#ifdef __x86_64__
    return level >= kVnniBf16 ? linear_avx512_vnni_bf16(*arguments) : linear_avx512_vnni(*arguments);
#else
    return arguments == nullptr || level > 0;
#endif
}
