// A cuBLAS that computes nothing, for onnxruntime's CUDA provider: products of matrices are counted.
#include "counters.h"
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0 };

#define COUNTED(name)        \
  int name(void) {           \
    fake_count(LAUNCHES, 1); \
    return SUCCESS;          \
  }
COUNTED(cublasSgemm_v2)
COUNTED(cublasSgemmBatched)
COUNTED(cublasSgemmStridedBatched)
COUNTED(cublasGemmEx)
COUNTED(cublasGemmBatchedEx)
COUNTED(cublasGemmStridedBatchedEx)
COUNTED(cublasLtMatmul)

static int nothing;

__attribute__((constructor)) static void read_environment(void) {
  const char *override = getenv("NVIDIA_TF32_OVERRIDE");
  if (override && strcmp(override, "0") == 0) fake_count(LOADED_WITHOUT_TF32, 1);
}

int cublasCreate_v2(void **handle) {
  *handle = &nothing;
  return SUCCESS;
}

int cublasLtCreate(void **handle) {
  *handle = &nothing;
  return SUCCESS;
}

int cublasGetMathMode(void *handle, int *mode) {
  *mode = 0;
  return SUCCESS;
}

const char *cublasGetStatusName(int status) {
  return "fake";
}

const char *cublasGetStatusString(int status) {
  return "an error of the fake cuBLAS";
}

// Functions that have nothing to do, or are never called: the provider is not loaded without them.
#define NOTHING(name) \
  int name(void) {    \
    return SUCCESS;   \
  }
NOTHING(cublasDcopy_v2)
NOTHING(cublasDestroy_v2)
NOTHING(cublasDgeam)
NOTHING(cublasDgemmBatched)
NOTHING(cublasDgemmStridedBatched)
NOTHING(cublasDgemm_v2)
NOTHING(cublasDgetrfBatched)
NOTHING(cublasDgetriBatched)
NOTHING(cublasLtDestroy)
NOTHING(cublasLtMatmulAlgoConfigSetAttribute)
NOTHING(cublasLtMatmulAlgoGetHeuristic)
NOTHING(cublasLtMatmulAlgoInit)
NOTHING(cublasLtMatmulDescCreate)
NOTHING(cublasLtMatmulDescDestroy)
NOTHING(cublasLtMatmulDescSetAttribute)
NOTHING(cublasLtMatmulPreferenceCreate)
NOTHING(cublasLtMatmulPreferenceDestroy)
NOTHING(cublasLtMatmulPreferenceSetAttribute)
NOTHING(cublasLtMatrixLayoutCreate)
NOTHING(cublasLtMatrixLayoutDestroy)
NOTHING(cublasLtMatrixLayoutSetAttribute)
NOTHING(cublasLtMatrixTransform)
NOTHING(cublasLtMatrixTransformDescCreate)
NOTHING(cublasLtMatrixTransformDescDestroy)
NOTHING(cublasScopy_v2)
NOTHING(cublasSetMathMode)
NOTHING(cublasSetStream_v2)
NOTHING(cublasSgeam)
NOTHING(cublasSgetrfBatched)
NOTHING(cublasSgetriBatched)
NOTHING(cublasSscal_v2)
