// zod in the form of which a bundle has only what is used. Without its English messages errors would say "Invalid input".
import { config } from 'zod/mini';
import english from 'zod/v4/locales/en.js';

// An application that uses zod itself may have chosen another language.
if (!config().localeError) config(english());

export * from 'zod/mini';
export { $ZodError, $ZodObject } from 'zod/v4/core';
