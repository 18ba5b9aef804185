/**
 * The paper's network written once more in plain float64 loops, from the paper and with nothing from src: what the graph
 * is tested against.
 */
export interface PlainNetwork {
  readonly inFeatures: number;
  readonly hiddenFeatures: number;
  readonly hiddenLayers: number;
  readonly timeEmbeddingDim: number;
  readonly weights: ReadonlyMap<string, ArrayLike<number>>;
}

/** Outputs, row after row, for rows of points and one 0-based timestep a row. */
export function plainForward(network: PlainNetwork, points: ArrayLike<number>, timesteps: readonly number[]): number[] {
  return timesteps.flatMap((timestep, row) => {
    let hidden = Array.from({ length: network.inFeatures }, (_, i) => Number(points[row * network.inFeatures + i]));
    const encoding = encode(timestep + 1, network.timeEmbeddingDim);
    for (let layer = 0; layer <= network.hiddenLayers; layer++) {
      const last = layer === network.hiddenLayers;
      const width = last ? network.inFeatures : network.hiddenFeatures;
      const name = `layers.${layer}`;
      const timeHidden = dense(network, `${name}.time_embedding.0`, encoding, width).map(positivePart);
      const time = dense(network, `${name}.time_embedding.2`, timeHidden, width);
      const sum = dense(network, `${name}.linear`, hidden, width).map((x, i) => x + Number(time[i]));
      hidden = last ? sum : sum.map(positivePart);
    }
    return hidden;
  });
}

function encode(t: number, dim: number): number[] {
  return Array.from({ length: dim }, (_, i) =>
    i % 2 === 0 ? Math.sin(t / 10000 ** (i / dim)) : Math.cos(t / 10000 ** ((i - 1) / dim)),
  );
}

function dense(network: PlainNetwork, name: string, x: readonly number[], width: number): number[] {
  const weight = network.weights.get(`${name}.weight`);
  const bias = network.weights.get(`${name}.bias`);
  if (!weight || !bias || weight.length !== width * x.length || bias.length !== width)
    throw new Error(`no weights of the right size for ${name}`);
  return Array.from({ length: width }, (_, out) =>
    x.reduce((sum, value, i) => sum + value * Number(weight[out * x.length + i]), Number(bias[out])),
  );
}

function positivePart(x: number): number {
  return Math.max(x, 0);
}
