// What the fake libraries count. The tested process reads it in a file, in the folder FAKE_CUDA_COUNTERS of the environment.
#pragma once
#include <stdint.h>

enum counter {
  COPIES_TO_DEVICE,
  BYTES_TO_DEVICE,
  COPIES_TO_HOST,
  BYTES_TO_HOST,
  // Kernels, and calls of cuBLAS and cuDNN that compute.
  LAUNCHES,
  // Device memory that is allocated, and the most so far, in bytes.
  MEMORY,
  MEMORY_PEAK,
  // Convolutions that were planned with other pads before than after the image.
  UNEVEN_CONVOLUTIONS,
  // Libraries of cuBLAS that were loaded with NVIDIA_TF32_OVERRIDE=0.
  LOADED_WITHOUT_TF32,
  // Bit d: memory was allocated on device d.
  DEVICES,
  COUNTERS,
};

// How many devices there are, as the environment says.
int fake_device_count(void);

void fake_count(enum counter counter, int64_t amount);
