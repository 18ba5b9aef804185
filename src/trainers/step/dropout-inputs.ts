import type { Graph, Value } from '../../graph/graph.ts';

/** An input of random integers for one dropout of a training graph, drawn anew for each batch. */
export interface DropoutInput {
  readonly name: string;
  /** Integers a step: the input is float32 ['steps', length]; those of several batches lie one after the other. */
  readonly length: number;
}

/** Declares the inputs `dropout.0`, `dropout.1`, ... of a graph, in the order in which the model asks for them. */
export class DropoutInputs {
  readonly all: DropoutInput[] = [];

  constructor(
    private readonly graph: Graph,
    private readonly steps: number | string,
  ) {}

  /** @returns float32 ['steps', length]. */
  declare(length: number): Value {
    const name = `dropout.${this.all.length}`;
    this.all.push({ name, length });
    return this.graph.input(name, 'float32', [this.steps, length]);
  }
}
