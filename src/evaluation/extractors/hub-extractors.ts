import type { OnnxFeaturesOptions } from './onnx-features.ts';

/** An ONNX model of the Hub with the preprocessing that a metric of the literature is defined with. */
interface HubExtractor {
  readonly repository: string;
  readonly file: string;
  readonly options: Pick<
    OnnxFeaturesOptions,
    'output_name' | 'class_token' | 'image_size' | 'resize' | 'center_crop' | 'image_mean' | 'image_std'
  >;
}

export type HubExtractorName = 'dinov2' | 'clip';

export const HUB_EXTRACTORS: Readonly<Record<HubExtractorName, HubExtractor>> = {
  /** Stein et al. 2023, dgm-eval: DINOv2 ViT-L/14, its class token. Both sides to 224 pixels, by Pillow. */
  dinov2: {
    repository: 'onnx-community/dinov2-large',
    file: 'onnx/model.onnx',
    options: {
      output_name: 'last_hidden_state',
      class_token: true,
      image_size: { height: 224, width: 224 },
      resize: 'bicubic',
      image_mean: [0.485, 0.456, 0.406],
      image_std: [0.229, 0.224, 0.225],
    },
  },
  /** Jayasumana et al. 2024, google-research/cmmd: CLIP ViT-L/14 of 336 pixels. The middle square, by Pillow. */
  clip: {
    repository: 'Xenova/clip-vit-large-patch14-336',
    file: 'onnx/vision_model.onnx',
    options: {
      output_name: 'image_embeds',
      image_size: { height: 336, width: 336 },
      resize: 'bicubic',
      center_crop: true,
      image_mean: [0.48145466, 0.4578275, 0.40821073],
      image_std: [0.26862954, 0.26130258, 0.27577711],
    },
  },
};
