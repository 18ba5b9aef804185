import { type GraphCost, graphCost } from '../../graph/cost.ts';
import { momentKinds } from '../../graph/optimizer.ts';
import { elementCount } from '../../graph/types.ts';
import { hwnc } from '../../nn/hwnc.ts';
import { nchw } from '../../nn/layout.ts';
import { type ConcreteDevice, isCuda } from '../../runtime/device.ts';
import { takesStepsOnHost } from '../engines/engine.ts';
import { buildLoopGraph } from '../engines/fused.ts';
import { vectorCount } from '../engines/parameter-memory.ts';
import { buildGradientGraph, buildLossGraph } from '../step/loss-graph.ts';
import type { StepSettings } from '../step/settings.ts';
import { vectorKinds } from '../step/update.ts';

/** What a step of training takes. */
export interface StepCost {
  /** Floating-point operations of its products and convolutions. */
  readonly flops: number;
  /** Nodes that are run. */
  readonly nodes: number;
  /** Bytes of memory: of the process on the cpu, of the card on a GPU. */
  readonly memoryBytes: number;
}

/** What all batch sizes have in common. */
interface Run {
  readonly device: ConcreteDevice;
  /** Steps of one run of a Loop: their samples are there at once. */
  readonly stepsPerRun: number;
  /** Bytes of the training samples in the memory of the process. */
  readonly dataBytes: number;
}

const MIB = 2 ** 20;
/*
 * Measured, see docs/how-long.md. onnxruntime takes memory in pieces that it does not give back, and in a Loop on the cpu it
 * lays out a second time what it has found in the first trip.
 */
const PROCESS_BYTES = 200 * MIB;
const HELD_ON_HOST = 1.5;
const HELD_IN_LOOP = 2.2;
const STATES_IN_LOOP = 3;
const HELD_ON_GPU = 1.15;
/** The context of CUDA, the workspaces of cuDNN. */
const GPU_CONTEXT_BYTES = 1.5 * 1024 * MIB;

/** The cost of a step by its batch size. All of it grows by the same with each sample, so two graphs are enough. */
export function stepCosts(settings: StepSettings, run: Run): (batchSize: number) => StepCost {
  const isPoints = settings.objective.inputs.clean?.shape.length === 1;
  const [few, many] = isPoints ? [256, 1024] : [8, 32];
  const [low, high] = [few, many].map((batchSize) => costOf({ ...settings, batchSize }, run));
  return (batchSize) => {
    const at = (figure: keyof GraphCost) => {
      const [first = 0, second = 0] = [low?.[figure], high?.[figure]];
      return Math.max(0, first + ((second - first) * (batchSize - few)) / (many - few));
    };
    const memoryBytes = memoryOf({ ...settings, batchSize }, at('workingBytes'), run);
    return { flops: at('flops'), nodes: at('nodes'), memoryBytes };
  };
}

/** Of one step: all of its batches, forward and backward, and the update. */
function costOf(settings: StepSettings, { device, stepsPerRun }: Run): GraphCost {
  const target = isCuda(device) ? 'cuda' : 'any';
  if (!takesStepsOnHost(settings, device, 1))
    return graphCost(buildLoopGraph(settings, target).graph, { lengths: { steps: stepsPerRun } });
  const layout = isCuda(device) ? nchw : hwnc;
  const { graph, means } = buildGradientGraph(settings, layout, target);
  const batch = graphCost(graph, { reusesBuffers: false });
  // The means over the step take a forward pass of their own.
  const forward = means.size > 0 ? graphCost(buildLossGraph(settings, layout, 'means', target).graph) : undefined;
  const ofStep = (figure: 'flops' | 'nodes') => settings.accumulationSteps * (batch[figure] + (forward?.[figure] ?? 0));
  return {
    flops: ofStep('flops'),
    nodes: ofStep('nodes'),
    workingBytes: batch.workingBytes + (forward?.workingBytes ?? 0),
  };
}

function memoryOf(settings: StepSettings, workingBytes: number, { device, dataBytes }: Run): number {
  const { objective, optimizer, ema, accumulationSteps } = settings;
  const vectorBytes = 4 * objective.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const stateBytes = vectorBytes * vectorKinds(settings).length;
  if (device !== 'cpu') return GPU_CONTEXT_BYTES + HELD_ON_GPU * (STATES_IN_LOOP * stateBytes + workingBytes);
  const base = PROCESS_BYTES + dataBytes;
  if (!takesStepsOnHost(settings, device, 1)) return base + STATES_IN_LOOP * stateBytes + HELD_IN_LOOP * workingBytes;
  const held = vectorCount({ moments: momentKinds(optimizer), ema, batches: accumulationSteps });
  // At the end the state is copied out before the session is gone.
  return base + vectorBytes * held + HELD_ON_HOST * workingBytes + stateBytes;
}
