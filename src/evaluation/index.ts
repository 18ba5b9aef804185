export { evaluate } from './evaluate.ts';
export type { EvaluateOptions, EvaluationStage, MetricName } from './evaluate-options.ts';
export type { FakeInput, RealInput } from './evaluation-input.ts';
export type { EvaluatedSet, EvaluationReport, ReportedExtractor } from './evaluation-report.ts';
export { type ImageStatistics, type ImageStatisticsOptions, imageStatistics } from './image-statistics.ts';
