// A CUDA runtime without a GPU, for onnxruntime's CUDA provider. Device memory is memory of the host, reserved but hardly
// touched. Copies are counted, and done up to a size: shapes, indices and the conditions of a Loop arrive. Kernels are
// counted and not run, but for one: the addition of floats, by which iso-diffusion tells whether a device computes. All
// other results are what lies in memory, mostly zero, and never a float that is not finite.
#define _GNU_SOURCE
#include "counters.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
  fprintf(stderr, "fake CUDA: %s\n", what);
  abort();
}

// Counters: a file of records, which is called as the id of the process.

struct record {
  char name[24];
  int64_t value;
};
static struct record *records;

static const char *const names[COUNTERS] = {
    [COPIES_TO_DEVICE] = "copiesToDevice",
    [BYTES_TO_DEVICE] = "bytesToDevice",
    [COPIES_TO_HOST] = "copiesToHost",
    [BYTES_TO_HOST] = "bytesToHost",
    [LAUNCHES] = "launches",
    [MEMORY] = "memory",
    [MEMORY_PEAK] = "memoryPeak",
    [UNEVEN_CONVOLUTIONS] = "unevenConvolutions",
    [LOADED_WITHOUT_TF32] = "loadedWithoutTf32",
    [DEVICES] = "devices",
};

__attribute__((constructor)) static void open_counters(void) {
  const char *folder = getenv("FAKE_CUDA_COUNTERS");
  if (!folder) fail("FAKE_CUDA_COUNTERS does not name a folder");
  char path[4096];
  snprintf(path, sizeof path, "%s/%d", folder, getpid());
  int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  size_t size = COUNTERS * sizeof(struct record);
  if (file < 0 || ftruncate(file, size) != 0) fail("a file in FAKE_CUDA_COUNTERS cannot be written");
  records = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (records == MAP_FAILED) fail("a file in FAKE_CUDA_COUNTERS cannot be mapped");
  close(file);
  for (int i = 0; i < COUNTERS; i++) strncpy(records[i].name, names[i], sizeof records[i].name);
}

void fake_count(enum counter counter, int64_t amount) {
  __sync_fetch_and_add(&records[counter].value, amount);
}

// Devices: FAKE_CUDA_DEVICES of them, or 1. Each thread has its own current one.

static _Thread_local int current_device;

int fake_device_count(void) {
  const char *all = getenv("FAKE_CUDA_DEVICES");
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  int count = all ? atoi(all) : 1;
  if (!visible) return count;
  int listed = *visible != 0;
  for (; *visible; visible++) listed += *visible == ',';
  return listed < count ? listed : count;
}

int cudaSetDevice(int device) {
  if (device < 0 || device >= fake_device_count()) return INVALID_DEVICE;
  current_device = device;
  return SUCCESS;
}

int cudaGetDeviceCount(int *count) {
  *count = fake_device_count();
  return SUCCESS;
}

int cudaGetDevice(int *device) {
  *device = current_device;
  return SUCCESS;
}

// Memory

static const size_t DEVICE_BYTES = 80ull << 30;
static const size_t PAGE = 4096;

struct block {
  char *start;
  size_t length;
  bool on_device;
  int device;
};
static struct block blocks[1 << 16];
static int block_count;

static void *allocate(size_t bytes, bool on_device) {
  size_t length = (bytes + PAGE - 1) / PAGE * PAGE;
  char *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return NULL;
  pthread_mutex_lock(&mutex);
  if (block_count == sizeof blocks / sizeof *blocks) fail("too many allocations");
  blocks[block_count++] = (struct block){start, length, on_device, current_device};
  pthread_mutex_unlock(&mutex);
  return start;
}

// The length of what was freed.
static size_t release(void *start) {
  size_t length = 0;
  pthread_mutex_lock(&mutex);
  for (int i = 0; i < block_count; i++) {
    if (blocks[i].start != start) continue;
    length = blocks[i].length;
    blocks[i] = blocks[--block_count];
    break;
  }
  pthread_mutex_unlock(&mutex);
  if (length) munmap(start, length);
  return length;
}

// The device that has it; -1 for the host.
static int device_of(const void *address) {
  const char *byte = address;
  int device = -1;
  pthread_mutex_lock(&mutex);
  for (int i = 0; i < block_count; i++) {
    if (byte < blocks[i].start || byte >= blocks[i].start + blocks[i].length) continue;
    if (blocks[i].on_device) device = blocks[i].device;
    break;
  }
  pthread_mutex_unlock(&mutex);
  return device;
}

static bool is_on_device(const void *address) {
  return device_of(address) >= 0;
}

int cudaMalloc(void **address, size_t bytes) {
  size_t length = (bytes + PAGE - 1) / PAGE * PAGE;
  if (records[MEMORY].value + length > DEVICE_BYTES) return OUT_OF_MEMORY;
  *address = allocate(length, true);
  if (!*address) return OUT_OF_MEMORY;
  fake_count(MEMORY, length);
  // onnxruntime allocates a byte on device 0 when it loads the provider, whichever device it is for.
  if (bytes > 1) __sync_fetch_and_or(&records[DEVICES].value, 1ll << current_device);
  if (records[MEMORY].value > records[MEMORY_PEAK].value) records[MEMORY_PEAK].value = records[MEMORY].value;
  return SUCCESS;
}

int cudaFree(void *address) {
  if (address) fake_count(MEMORY, -(int64_t)release(address));
  return SUCCESS;
}

int cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
  *address = allocate(bytes, false);
  return *address ? SUCCESS : OUT_OF_MEMORY;
}

int cudaMallocHost(void **address, size_t bytes) {
  return cudaHostAlloc(address, bytes, 0);
}

int cudaFreeHost(void *address) {
  if (address) release(address);
  return SUCCESS;
}

int cudaMemGetInfo(size_t *available, size_t *total) {
  *total = DEVICE_BYTES;
  *available = DEVICE_BYTES - records[MEMORY].value;
  return SUCCESS;
}

// Copies

// Larger ones would only take the time that a GPU does not.
static const size_t MOST_COPIED_FROM_HOST = 1 << 20;
static const size_t MOST_COPIED_ON_DEVICE = 1 << 12;

enum kind { HOST_TO_HOST, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, BY_ADDRESS };

// A fake computes no gradients. With FAKE_CUDA_VALUES each device d has 1 + d in place of each float that comes to the host,
// so that a test sees which device it came from. Conditions, losses and their terms are shorter than that.
static const size_t LEAST_REPLACED = 64;

static void replace(float *values, size_t bytes, int device) {
  for (size_t i = 0; i < bytes / sizeof(float); i++) values[i] = 1 + device;
}

// Of words that would be NaN or infinite as floats. A training would end there by chance.
static void clear_non_finite(uint32_t *words, size_t bytes) {
  const uint32_t exponent = 0x7f800000;
  for (size_t i = 0; i < bytes / sizeof(uint32_t); i++)
    if ((words[i] & exponent) == exponent) words[i] = 0;
}

static int copy(void *to, const void *from, size_t bytes, enum kind kind) {
  if (kind == BY_ADDRESS) kind = (is_on_device(from) ? DEVICE_TO_HOST : HOST_TO_HOST) + (is_on_device(to) ? 1 : 0);
  size_t most = kind == DEVICE_TO_DEVICE ? MOST_COPIED_ON_DEVICE : MOST_COPIED_FROM_HOST;
  if (kind == HOST_TO_HOST || bytes <= most) memmove(to, from, bytes);
  if (kind == HOST_TO_DEVICE) {
    fake_count(COPIES_TO_DEVICE, 1);
    fake_count(BYTES_TO_DEVICE, bytes);
  }
  if (kind == DEVICE_TO_HOST) {
    if (bytes <= most) clear_non_finite(to, bytes);
    if (getenv("FAKE_CUDA_VALUES") && bytes >= LEAST_REPLACED) replace(to, bytes, device_of(from));
    fake_count(COPIES_TO_HOST, 1);
    fake_count(BYTES_TO_HOST, bytes);
  }
  return SUCCESS;
}

int cudaMemcpy(void *to, const void *from, size_t bytes, enum kind kind) {
  return copy(to, from, bytes, kind);
}

int cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum kind kind, void *stream) {
  return copy(to, from, bytes, kind);
}

int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset, enum kind kind) {
  memset(to, 0, bytes);
  return SUCCESS;
}

int cudaMemset(void *to, int value, size_t bytes) {
  if (bytes <= MOST_COPIED_ON_DEVICE) memset(to, value, bytes);
  return SUCCESS;
}

int cudaMemsetAsync(void *to, int value, size_t bytes, void *stream) {
  return cudaMemset(to, value, bytes);
}

// Kernels. The provider registers each with its mangled name when it is loaded.

struct grid {
  unsigned x, y, z;
};

struct addition {
  const void *handle;
  struct addition *next;
};
static struct addition *additions;

// void onnxruntime::cuda::_BinaryElementWiseSimple<true, true, float, float, float, OP_Add<float, float, float>, ...>(
//     float const *left, float const *right, float *sum, OP_Add, int count)
static bool adds_floats(const char *name) {
  return strstr(name, "_BinaryElementWiseSimpleILb1ELb1EfffNS0_6OP_AddIfffEE") && strstr(name, "EiEEv");
}

void __cudaRegisterFunction(void **binary, const void *handle, char *device_function, const char *name, int threads,
                            void *thread, void *block, void *block_size, void *grid_size, int *warp) {
  if (!adds_floats(name)) return;
  struct addition *addition = malloc(sizeof *addition);
  if (!addition) fail("out of memory");
  *addition = (struct addition){handle, additions};
  additions = addition;
}

static const int MOST_ADDED = 1024;

static int launch(const void *handle, void **arguments) {
  fake_count(LAUNCHES, 1);
  for (struct addition *addition = additions; addition; addition = addition->next) {
    if (addition->handle != handle) continue;
    const float *left = *(const float **)arguments[0];
    const float *right = *(const float **)arguments[1];
    float *sum = *(float **)arguments[2];
    int count = *(int *)arguments[4];
    if (count > MOST_ADDED) break;
    for (int i = 0; i < count; i++) sum[i] = left[i] + right[i];
    break;
  }
  return SUCCESS;
}

int cudaLaunchKernel(const void *handle, struct grid grid, struct grid block, void **arguments, size_t shared,
                     void *stream) {
  return launch(handle, arguments);
}

int __cudaLaunchKernel(const void *handle, struct grid grid, struct grid block, void **arguments, size_t shared,
                       void *stream) {
  return launch(handle, arguments);
}

int cudaLaunchKernelExC(const void *configuration, const void *handle, void **arguments) {
  return launch(handle, arguments);
}

int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
  function(data);
  return SUCCESS;
}

int __cudaGetKernel(const void **kernel, const void *handle) {
  *kernel = handle;
  return SUCCESS;
}

void **__cudaRegisterFatBinary(void *binary) {
  static void *handle;
  return &handle;
}

// The device: an H100.

int cudaDriverGetVersion(int *version) {
  *version = 13000;
  return SUCCESS;
}

int cudaRuntimeGetVersion(int *version) {
  *version = 13000;
  return SUCCESS;
}

// The beginning of cudaDeviceProp of CUDA 13, which has 1008 bytes.
struct properties {
  char name[256];
  char ids[28];
  size_t total_memory;
  size_t shared_memory_per_block;
  int registers_per_block;
  int warp_size;
  size_t memory_pitch;
  int threads_per_block;
  int block_size[3];
  int grid_size[3];
  size_t constant_memory;
  int major;
  int minor;
  size_t texture_alignment;
  size_t texture_pitch_alignment;
  int multiprocessors;
  char rest[620];
};

int cudaGetDeviceProperties(struct properties *properties, int device) {
  *properties = (struct properties){
      .name = "a fake of NVIDIA H100 80GB HBM3",
      .total_memory = DEVICE_BYTES,
      .shared_memory_per_block = 49152,
      .registers_per_block = 65536,
      .warp_size = 32,
      .memory_pitch = 2147483647,
      .threads_per_block = 1024,
      .block_size = {1024, 1024, 64},
      .grid_size = {2147483647, 65535, 65535},
      .constant_memory = 65536,
      .major = 9,
      .minor = 0,
      .texture_alignment = 512,
      .texture_pitch_alignment = 32,
      .multiprocessors = 132,
  };
  return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  enum {
    MULTIPROCESSORS = 16,
    MAJOR = 75,
    MINOR = 76,
    SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
    SHARED_MEMORY_PER_BLOCK = 97,
  };
  switch (attribute) {
    case MULTIPROCESSORS: *value = 132; break;
    case MAJOR: *value = 9; break;
    case MINOR: *value = 0; break;
    case SHARED_MEMORY_PER_MULTIPROCESSOR: *value = 233472; break;
    case SHARED_MEMORY_PER_BLOCK: *value = 232448; break;
    default: *value = 0;
  }
  return SUCCESS;
}

int cudaFuncGetAttributes(char *attributes, const void *handle) {
  const int THREADS_PER_BLOCK = 1024;
  const int AT = 24;
  memset(attributes, 0, 64);
  memcpy(attributes + AT, &THREADS_PER_BLOCK, sizeof THREADS_PER_BLOCK);
  return SUCCESS;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *handle, int threads, size_t shared,
                                                           unsigned flags) {
  *blocks = 2;
  return SUCCESS;
}

// Streams and events. All work is done when a call returns.

static int nothing;

int cudaStreamCreateWithFlags(void **stream, unsigned flags) {
  // Each is another one: the provider compares them.
  *stream = malloc(1);
  return *stream ? SUCCESS : OUT_OF_MEMORY;
}

int cudaStreamDestroy(void *stream) {
  free(stream);
  return SUCCESS;
}

int cudaStreamIsCapturing(void *stream, int *status) {
  *status = 0;
  return SUCCESS;
}

int cudaEventCreateWithFlags(void **event, unsigned flags) {
  *event = &nothing;
  return SUCCESS;
}

const char *cudaGetErrorName(int error) {
  return "fake";
}

const char *cudaGetErrorString(int error) {
  return "an error of the fake CUDA";
}

// Functions that have nothing to do, or are never called: the provider is not loaded without them.
#define NOTHING(name) \
  int name(void) {    \
    return SUCCESS;   \
  }
NOTHING(__cudaPopCallConfiguration)
NOTHING(__cudaPushCallConfiguration)
NOTHING(__cudaRegisterFatBinaryEnd)
NOTHING(__cudaRegisterVar)
NOTHING(__cudaUnregisterFatBinary)
NOTHING(cudaDeviceSynchronize)
NOTHING(cudaEventCreate)
NOTHING(cudaEventDestroy)
NOTHING(cudaEventElapsedTime)
NOTHING(cudaEventRecord)
NOTHING(cudaEventSynchronize)
NOTHING(cudaFreeAsync)
NOTHING(cudaFuncSetAttribute)
NOTHING(cudaGetDriverEntryPointByVersion)
NOTHING(cudaGetLastError)
NOTHING(cudaGraphDestroy)
NOTHING(cudaGraphExecDestroy)
NOTHING(cudaGraphInstantiate)
NOTHING(cudaGraphLaunch)
NOTHING(cudaKernelSetAttributeForDevice)
NOTHING(cudaLibraryGetKernel)
NOTHING(cudaLibraryLoadData)
NOTHING(cudaLibraryUnload)
NOTHING(cudaMallocFromPoolAsync)
NOTHING(cudaMemPoolCreate)
NOTHING(cudaMemPoolDestroy)
NOTHING(cudaMemPoolGetAttribute)
NOTHING(cudaMemPoolSetAttribute)
NOTHING(cudaMemPoolTrimTo)
NOTHING(cudaMemcpy2DAsync)
NOTHING(cudaPeekAtLastError)
NOTHING(cudaStreamBeginCapture)
NOTHING(cudaStreamCreate)
NOTHING(cudaStreamEndCapture)
NOTHING(cudaStreamSynchronize)
NOTHING(cudaStreamWaitEvent)
