/** Nothing is cached in files by a page: its browser keeps what it fetched. */
export const defaultCacheDir = (): string => '/cache';
