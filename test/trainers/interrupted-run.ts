// A long run of the API, which tells its parent when it trains. Arguments: folder, how it takes signals.
import { smallTrainer } from './small-trainer.ts';

const [output_dir = '', mode] = process.argv.slice(2);
if (mode === 'listens') process.on('SIGINT', () => console.log('listener'));
const trainer = smallTrainer({ output_dir, max_steps: 10_000_000, save_steps: 0, disable_tqdm: true }, [
  { onStep: ({ global_step }) => void (global_step === 7 && console.log('training')) },
]);
const result = await trainer.train(mode === 'alone' ? { handle_signals: false } : {});
console.log(`returned ${result.interrupted}, ${process.listenerCount('SIGINT')} listeners`);
process.exit(0);
