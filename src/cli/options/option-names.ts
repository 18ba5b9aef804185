import { nearestName } from '../../registry.ts';

/**
 * Names of one thing, a line each: ours, and those of the scripts of diffusers, transformers, Lightning,
 * denoising-diffusion-pytorch, guided-diffusion and pytorch-fid. A line may have several of ours; commands differ.
 */
const SAME_MEANING = `
learning_rate lr base_lr train_lr initial_lr
num_train_epochs epochs num_epochs n_epochs max_epochs nb_epochs total_epochs train_epochs epoch
max_steps max_train_steps num_train_steps train_num_steps train_steps total_steps num_steps iterations num_iterations n_iters max_iters
per_device_train_batch_size batch_size train_batch_size per_gpu_train_batch_size eval_batch_size bs batch microbatch
gradient_accumulation_steps grad_accumulation_steps gradient_accumulate_every accumulate_grad_batches grad_accum accum_steps
gradient_checkpointing use_checkpoint enable_gradient_checkpointing
lr_scheduler_type lr_scheduler lr_schedule scheduler_type
lr_num_cycles num_cycles
lr_power
lr_step_rules step_rules
warmup_steps lr_warmup_steps num_warmup_steps warmup lr_warmup
optim optimizer opt
adam_beta1 beta1
adam_beta2 beta2
noise_offset offset_noise
input_perturbation ip_noise_gamma
momentum sgd_momentum
adam_epsilon epsilon eps adam_eps
weight_decay adam_weight_decay wd l2
max_grad_norm grad_clip clip_grad gradient_clip_val clip_grad_norm gradient_clipping grad_clip_norm max_norm clip
use_ema ema
ema_max_decay ema_decay ema_rate
ema_inv_gamma inv_gamma
ema_power power
ema_min_decay min_decay
ema_update_after_step update_after_step ema_start step_start_ema
tf32 allow_tf32
seed random_seed manual_seed rng_seed
output_dir output out out_dir save_dir results_folder results_dir log_dir logging_dir logdir save_path output_path
save_steps checkpointing_steps save_every save_interval save_freq save_and_sample_every checkpoint_every save_model_epochs
save_total_limit checkpoints_total_limit max_checkpoints
logging_steps log_every log_interval log_freq log_every_n_steps log_steps
report_to logger log_with loggers
resume_from_checkpoint resume resume_checkpoint resume_from ckpt_path
dataset dataset_name dataset_path train_data_dir data_path train_dir data train_data dataroot
images dataset image_folder image_dir data
real real_path reference ref_path real_images path1
fake fake_path generated sample_path samples fake_images path2
n num_samples n_samples sample_num num_images max_train_samples
steps num_inference_steps inference_steps sampling_steps sampling_timesteps timestep_respacing ddim_steps
num_train_timesteps timesteps diffusion_steps num_diffusion_steps ddpm_num_steps num_timesteps n_timesteps noise_steps
beta_schedule ddpm_beta_schedule noise_schedule schedule
prediction_type objective parameterization pred_type
learn_variance learn_sigma variance_type
lambda lambda_iso iso_lambda lmbda reg_weight
loss loss_type criterion
base_loss base
resolution sample_size image_size img_size im_size size
channels num_channels in_channels img_channels image_channels
random_flip hflip horizontal_flip augment_horizontal_flip random_horizontal_flip
stretch resize
random_crop crop
class_conditional class_cond conditional
class_labels labels class_label classes y
guidance_scale cfg_scale cfg guidance
dropout dropout_rate p_dropout
model arch architecture model_name model_config_name_or_path model_name_or_path pretrained_model_name_or_path model_path model_id checkpoint
condition condition_image cond_image low_res_image lr_image conditioning_image
condition_dataset conditioning_image_column conditioning_dataset lr_dir
init_from pretrained pretrained_model_name_or_path model_name_or_path finetune_from init_checkpoint
cache_dir cache
hidden_features hidden_size hidden_dim width
num_hidden_layers n_layers num_layers depth
k nearest_k
device accelerator gpu
jobs num_workers workers n_jobs
runs num_runs n_runs
`
  .trim()
  .split('\n')
  .map((line) => line.split(' '));

/**
 * The one of `known` that a wrong name most likely means: one of the same meaning in other programs, else the one that
 * is spelt most like it. Undefined where there is neither.
 */
export function meantName(wrong: string, known: readonly string[]): string | undefined {
  const name = wrong.toLowerCase();
  for (const names of SAME_MEANING) {
    const ours = names.includes(name) ? names.find((each) => known.includes(each)) : undefined;
    if (ours !== undefined) return ours;
  }
  return nearestName(wrong, known);
}
