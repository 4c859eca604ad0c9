// The C interface of the kernel, and which level of instructions serves a call.

#include "attention.h"

#define PUBLIC extern "C" __attribute__((visibility("default")))

namespace {

enum Level { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

}  // namespace

PUBLIC int sie_attention_abi() { return kAbi; }

// The highest level this processor has.
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
PUBLIC int sie_attention(const Arguments* arguments, int level) {
#ifdef __x86_64__
    // Where v is float32, bfloat16 products would lose what the caller asked for.
    if (level >= kAvx512Bf16 && arguments->v_bfloat16) return attention_avx512_bf16(*arguments);
    if (level >= kAvx512) return attention_avx512(*arguments);
    if (level >= kAvx2) return attention_avx2(*arguments);
#endif
    return attention_portable(*arguments);
}
