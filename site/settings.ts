// What the page trains, chosen so that a picture shows within seconds on one slow core. docs/play.md has the measurements.

/** T: fewer timesteps than the paper's 1,000 are enough for points, and few steps learn each of them better. */
export const TIMESTEPS = 50;
/** The same noise at both ends as 1,000 timesteps of 0.0001 to 0.02, in 50. */
export const SCHEDULE = { num_train_timesteps: TIMESTEPS, beta_start: 0.002, beta_end: 0.4 } as const;
export const NETWORK = { hidden_features: 96, num_hidden_layers: 3, num_train_timesteps: TIMESTEPS } as const;
/** Standard deviation of the points: beside noise of 1 it decides how much of fine structure the network sees. */
export const SPREAD = 2;
/** Steps that the learning rate takes to fall to 0. */
export const MAX_STEPS = 20_000;
export const WARMUP_STEPS = 50;
export const EMA_DECAY = 0.999;
/** Steps between two looks for a command: at most a tenth of a second. */
export const CHUNK = 25;
/** Points that are drawn for the picture, and for the bars. */
export const SHOWN_POINTS = 600;
export const MEASURED_POINTS = 2000;
/** Balls of the bars reach to the fifth neighbour, as in the paper. */
export const NEAREST_K = 5;
