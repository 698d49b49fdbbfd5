// Listen and trade through a gateway with node's package `binance` and print what came, as one JSON
// document.
//
// Run by tests/e2e/test_more_clients.py, which tells node where the package lies:
// `node_binance_streams.cjs URL KEY SECRET`.

const { USDMClient, CoinMClient, WebsocketAPIClient, WebsocketClient } = require('binance');

const [URL_, KEY, SECRET] = process.argv.slice(2);
const STREAMS = URL_.replace('http', 'ws');
const WAIT_MS = 15000;
const ACCOUNT = { api_key: KEY, api_secret: SECRET };
const ORDER = { side: 'BUY', type: 'LIMIT', timeInForce: 'GTC', quantity: 0.001, price: 50000 };

// The library says its words in the log of the test, not between ours.
const LOGGER = { trace() {}, info: console.error, error: console.error };

/** Everything a client object emitted: messages, connections, errors. */
class Heard {
  constructor(client) {
    this.client = client;
    this.messages = [];
    this.urls = [];
    this.errors = [];
    this.waiting = new Set();
    client.on('message', (message) => {
      this.messages.push(message);
      this.waiting.forEach((look) => look());
    });
    client.on('open', ({ wsUrl }) => this.urls.push(wsUrl));
    client.on('exception', (error) => this.errors.push(error?.error?.code ?? String(error?.message ?? error)));
    client.on('reconnecting', ({ wsKey }) => this.errors.push(`reconnecting ${wsKey}`));
  }

  /** Return the first message that a condition holds of. */
  first(what, holds) {
    return new Promise((resolve, reject) => {
      const give = (message) => {
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve(message);
      };
      const look = () => {
        const found = this.messages.find(holds);
        if (found !== undefined) give(found);
      };
      const timer = setTimeout(
        () => reject(new Error(`no ${what}: ${JSON.stringify([this.urls, this.errors, this.messages.slice(0, 5)])}`)),
        WAIT_MS,
      );
      this.waiting.add(look);
      look();
    });
  }

  stream(name) {
    return this.first(name, (message) => message.stream === name || message.streamName === name);
  }

  /** What is told of an order. */
  order(id) {
    return this.first(`event of order ${id}`, (m) => {
      const told = m.data ?? m.event ?? m;
      return (told.o?.i ?? told.i) === id;
    });
  }

  end() {
    this.client.closeAll(true);
    return { urls: this.urls, errors: this.errors };
  }
}

async function streamsOf(base, key, names) {
  const heard = new Heard(new WebsocketClient({ wsUrl: base }, LOGGER));
  await heard.client.subscribe(names, key);
  const found = {};
  for (const name of names) found[name] = await heard.stream(name);
  return { found, ...heard.end() };
}

/** User data of a futures market: the library makes the listenKey itself. */
async function userData(base, restBase, Rest, subscribe, order) {
  const restOptions = { baseUrl: restBase };
  const heard = new Heard(new WebsocketClient({ wsUrl: base, restOptions, ...ACCOUNT }, LOGGER));
  await subscribe(heard.client);
  const rest = new Rest({ ...restOptions, ...ACCOUNT });
  const placed = await rest.submitNewOrder({ ...order }); // the library writes into it
  const event = await heard.order(placed.orderId);
  return { order: placed, event, ...heard.end() };
}

async function spotApi(base) {
  const api = new WebsocketAPIClient({ wsUrl: base, attachEventListeners: false, ...ACCOUNT }, LOGGER);
  const heard = new Heard(api.getWSClient());
  const depth = await api.getSpotOrderBook({ symbol: 'BTCUSDT', limit: 5 });
  await api.subscribeUserDataStream('mainWSAPI');
  const timestamp = Date.now();
  const order = await api.submitNewSpotOrder({ symbol: 'BTCUSDT', ...ORDER, timestamp });
  const { orderId } = order.result;
  const event = await heard.order(orderId);
  const cancel = await api.cancelSpotOrder({ symbol: 'BTCUSDT', orderId, timestamp });
  const again = { symbol: 'BTCUSDT', orderId, timestamp };
  const error = await api.cancelSpotOrder(again).catch((refused) => refused);
  return { depth, order, event, cancel, error, ...heard.end() };
}

async function futuresApi(base, market, symbol, order) {
  const api = new WebsocketAPIClient({ wsUrl: base, attachEventListeners: false, ...ACCOUNT }, LOGGER);
  const heard = new Heard(api.getWSClient());
  const timestamp = Date.now();
  const placed = await api.submitNewFuturesOrder(market, { symbol, ...order, timestamp });
  const asked = { symbol, orderId: placed.result.orderId, timestamp };
  const status = await api.getFuturesOrderStatus(market, asked);
  return { order: placed, status, ...heard.end() };
}

const UM_ORDER = { symbol: 'ETHUSDT', ...ORDER, quantity: 0.1, price: 1000 };
const CM_ORDER = { symbol: 'BTCUSD_PERP', ...ORDER, quantity: 1 };
const SPOT = ['btcusdt@kline_1m', 'btcusdt@bookTicker', 'btcusdt@trade', 'btcusdt@depth@100ms'];
const UM = ['btcusdt@kline_1m', 'btcusdt@bookTicker', 'btcusdt@markPrice@1s', 'btcusdt@depth@100ms'];
const CM = ['btcusd_perp@kline_1m', 'btcusd_perp@bookTicker'];
const toUm = (client) => client.subscribeUsdFuturesUserDataStream();
const toCm = (client) => client.subscribeCoinFuturesUserDataStream();

/** Each host by its own name. */
const byName = (name) => `${STREAMS}/${name}.binance.com`;
const restByName = (name) => `${URL_}/${name}.binance.com`;

const ASKED = {
  'spot by name': () => streamsOf(byName('stream'), 'main', SPOT),
  'um by name': () => streamsOf(byName('fstream'), 'usdm', UM),
  'cm by name': () => streamsOf(byName('dstream'), 'coinm', CM),
  'um user by name': () => userData(byName('fstream'), restByName('fapi'), USDMClient, toUm, UM_ORDER),
  'cm user by name': () => userData(byName('dstream'), restByName('dapi'), CoinMClient, toCm, CM_ORDER),
  'spot api by name': () => spotApi(byName('ws-api')),
  // One address for all but COIN-M.
  spot: () => streamsOf(STREAMS, 'main', SPOT),
  um: () => streamsOf(STREAMS, 'usdm', UM),
  'um user': () => userData(STREAMS, URL_, USDMClient, toUm, UM_ORDER),
  'spot api': () => spotApi(STREAMS),
  'um api': () => futuresApi(STREAMS, 'usdm', 'BTCUSDT', ORDER),
  'cm api': () => futuresApi(STREAMS, 'coinm', 'BTCUSD_PERP', { ...ORDER, quantity: 1 }),
};

async function main() {
  const found = await Promise.all(
    Object.entries(ASKED).map(async ([name, ask]) => {
      try {
        return [name, await ask()];
      } catch (error) {
        return [name, { failed: String(error?.stack ?? JSON.stringify(error)) }];
      }
    }),
  );
  process.stdout.write(JSON.stringify(Object.fromEntries(found)), () => process.exit(0));
}

main();
