/* A fake libcuda.so.1, compiled with NVIDIA's own header. Its state file, $PERFMON_FAKE_CUDA, has lines such as
 *
 *   initialised 1        the program has called cuInit
 *   count 2
 *   device0.active 1     it has a primary context on device 0
 *   device0.pci 0000:0a:00.0
 *   device0.uuid 16 bytes in hexadecimal
 *
 * cuInit ends the process: a monitor must never call it. */
#define STATE_VARIABLE "PERFMON_FAKE_CUDA"
#include "state.h"
#include <cuda.h>

static CUresult begin(char *name, int device) {
    state_refresh();
    snprintf(name, 24, "device%d", device);
    if (!state_number("", "initialised", 0)) return CUDA_ERROR_NOT_INITIALIZED;
    return device >= state_number("", "count", 0) ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
#define BEGIN(device) char name[24]; do { CUresult code = begin(name, device); if (code) return code; } while (0)

CUresult cuInit(unsigned flags) { abort(); }
CUresult cuDeviceGetCount(int *count) {
    state_refresh();
    if (!state_number("", "initialised", 0)) return CUDA_ERROR_NOT_INITIALIZED;
    *count = state_number("", "count", 0);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) { BEGIN(ordinal); *device = ordinal; return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    BEGIN(device);
    *flags = 0;
    *active = state_number(name, "active", 0);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char *to, int size, CUdevice device) { BEGIN(device); return state_copy(name, "pci", to, size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }
CUresult cuDeviceGetUuid_v2(CUuuid *to, CUdevice device) {
    BEGIN(device);
    char text[40];
    if (!state_copy(name, "uuid", text, sizeof text)) return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < 16; i++) sscanf(text + 2 * i, "%2hhx", (unsigned char *)to->bytes + i);
    return CUDA_SUCCESS;
}
