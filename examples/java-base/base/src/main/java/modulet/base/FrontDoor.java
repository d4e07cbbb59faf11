package modulet.base;

import com.alipay.sofa.ark.api.ArkClient;
import com.alipay.sofa.ark.spi.model.Biz;
import com.alipay.sofa.ark.spi.model.BizState;
import com.alipay.sofa.ark.spi.service.biz.BizManagerService;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import modulet.tunnel.Settings;

/**
 * {@code GET /biz1} is answered by the module biz1 itself, in the version that SOFAArk holds active at that moment
 * ("biz1 0.0.2 on base-1"), or with 503 when none is. {@code GET /} lists all modules with their states.
 */
final class FrontDoor {
    /** How long a call is held while no version is active because of a switch; it takes some microseconds on an idle machine. */
    private static final long SWITCH_NANOS = TimeUnit.MILLISECONDS.toNanos(250);

    private final Settings settings;

    private FrontDoor(Settings settings) {
        this.settings = settings;
    }

    /** Returns the port, which differs from the one asked for if that was 0. */
    static int open(Settings settings) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(settings.httpPort()), 0);
        server.createContext("/", new FrontDoor(settings)::serve);
        server.setExecutor(Executors.newFixedThreadPool(4, task -> {
            Thread thread = new Thread(task, "front-door");
            thread.setDaemon(true);
            return thread;
        }));
        server.start();
        return server.getAddress().getPort();
    }

    private void serve(HttpExchange exchange) throws IOException {
        String name = exchange.getRequestURI().getPath().substring(1);
        int status = 200;
        String text;
        try {
            text = name.isEmpty() ? ModuleList.text() : ask(name);
            if (text == null) {
                status = 503;
                text = "no active module " + name + " on " + settings.id();
            }
        } catch (RuntimeException | LinkageError e) {
            status = 500;
            text = e.toString();
        }
        byte[] body = (text + "\n").getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "text/plain; charset=utf-8");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    /** No state of our own: SOFAArk is asked at each request, so this switches exactly when it does. */
    private String ask(String name) {
        Biz active = active(name);
        Greeting greeting = active == null ? null : Greetings.of(active.getBizClassLoader());
        return greeting == null ? null : greeting.greet() + " on " + settings.id();
    }

    /** The active version; while SOFAArk switches from one to the next, the next one as soon as it is. */
    private static Biz active(String name) {
        BizManagerService modules = ArkClient.getBizManagerService();
        long start = System.nanoTime();
        Biz active = modules.getActiveBiz(name);
        while (active == null && switching(modules.getBiz(name)) && System.nanoTime() - start < SWITCH_NANOS) {
            LockSupport.parkNanos(1_000_000);
            active = modules.getActiveBiz(name);
        }
        return active;
    }

    /**
     * SOFAArk deactivates the old version first and then activates the new one, and its search for the active one looks
     * at one version after the other: for a moment there is none, though both are there and the new one has started. A
     * new one that is still starting beside a deactivated one looks the same; hence the bound.
     */
    private static boolean switching(List<Biz> versions) {
        Set<BizState> states = EnumSet.noneOf(BizState.class);
        versions.forEach(version -> states.add(version.getBizState()));
        return states.contains(BizState.ACTIVATED)
                || states.contains(BizState.DEACTIVATED) && states.contains(BizState.RESOLVED);
    }
}
