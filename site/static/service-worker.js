// Keeps the files of this build, so that the page works without a network after its first load. The build fills in the list.
const CACHE = `iso-diffusion-${'VERSION'}`;
const FILES = [];

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
  self.skipWaiting();
});

self.addEventListener('activate', (event) => {
  const old = caches
    .keys()
    .then((names) => names.filter((name) => name.startsWith('iso-diffusion-') && name !== CACHE));
  event.waitUntil(
    old.then((names) => Promise.all(names.map((name) => caches.delete(name)))).then(() => clients.claim()),
  );
});

// What is not in the list, as what a GPU needs, is kept when it was fetched once. Everything comes from the cache, the page too, so that its parts are always of one build. A new build shows at the next load.
self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || !request.url.startsWith(self.registration.scope)) return;
  const kept = async () => {
    const cache = await caches.open(CACHE);
    return cache.match(request.mode === 'navigate' ? './' : request, { ignoreSearch: true });
  };
  const fetched = async () => {
    const response = await fetch(request);
    if (response.ok) await (await caches.open(CACHE)).put(request, response.clone());
    return response;
  };
  event.respondWith(kept().then((found) => found ?? fetched()));
});
