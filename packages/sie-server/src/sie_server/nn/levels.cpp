// The C interface of the kernels, and which level of instructions serves a call.

#include "attention.h"
#include "int8.h"

#define PUBLIC extern "C" __attribute__((visibility("default")))

// Counted up with every change of an argument or of what a function means; library.py compares it with its own.
constexpr int kAbi = 2;

namespace {

enum AttentionLevel { kPortable, kAvx2, kAvx512, kAvx512Bf16 };
enum Int8Level { kVnni = 1, kVnniBf16 };

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

// The highest level of int8 this processor has; 0: none.
PUBLIC int sie_int8_level() {
#ifdef __x86_64__
    int level = sie_attention_level();
    if (level >= kAvx512 && __builtin_cpu_supports("avx512vnni")) return level == kAvx512Bf16 ? kVnniBf16 : kVnni;
#endif
    return 0;
}

// 0: done; 1: no memory. `level` is at least 1, and at most `sie_int8_level()`.
PUBLIC int sie_int8_linear(const LinearArguments* arguments, int level) {
#ifdef __x86_64__
    return level >= kVnniBf16 ? int8_linear_avx512_vnni_bf16(*arguments) : int8_linear_avx512_vnni(*arguments);
#else
    return arguments == nullptr || level > 0;
#endif
}
