package modulet.tunnel;

import com.alipay.sofa.koupleless.arklet.core.command.CommandService;
import com.fasterxml.jackson.core.JsonProcessingException;
import java.io.IOException;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Does what the controller's messages ask for and sends back what came of it. */
final class Commands implements BiConsumer<String, byte[]> {
    private static final Logger LOG = LoggerFactory.getLogger(Commands.class);

    private final CommandService arklet;
    private final Link link;
    /** Installs and uninstalls. */
    private final ExecutorService workers;
    /** Questions have a thread of their own: modules that start slowly must not make the base look dead. */
    private final ExecutorService questions = pool("mqtt-question", 1);

    Commands(CommandService arklet, Link link, int workers) {
        this.arklet = arklet;
        this.link = link;
        this.workers = pool("mqtt-worker", workers);
    }

    @Override
    public void accept(String command, byte[] payload) {
        try {
            Object content = payload.length == 0 ? null : Wire.JSON.readValue(payload, Object.class);
            boolean isMap = content instanceof Map;
            switch (command) {
                case "health" -> when(isMap || content == null, command, () -> questions.execute(this::health));
                case "queryAllBiz" -> when(isMap || content == null, command, () -> questions.execute(this::list));
                case "installBiz", "uninstallBiz" ->
                    when(isMap, command, () -> workers.execute(() -> operate(command, asMap(content))));
                case "baseline" -> when(content == null || content instanceof List, command, () -> baseline(content));
                default -> LOG.warn("unknown command {}", command);
            }
        } catch (JsonProcessingException e) {
            LOG.warn("{} without readable content: {}", command, e.getOriginalMessage());
        } catch (IOException | RuntimeException e) {
            // Thrown on, it would end the connection.
            LOG.error(command, e);
        }
    }

    private static void when(boolean rightShape, String command, Runnable action) {
        if (rightShape) {
            action.run();
        } else {
            LOG.warn("{} with content of the wrong shape", command);
        }
    }

    private void health() {
        try {
            link.answer("health", Wire.response(arklet.process("health", new LinkedHashMap<>())));
        } catch (Throwable e) {
            LOG.error("health", e);
            link.answer("health", Wire.failure(e));
        }
    }

    private void list() {
        try {
            link.answer("simpleBiz", Wire.simpleList(arklet.process("queryAllBiz", new LinkedHashMap<>()).getData()));
        } catch (Throwable e) {
            // There is no shape for a failure here; the controller asks again.
            LOG.error("queryAllBiz", e);
        }
    }

    private void operate(String command, Map<String, Object> content) {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("command", command);
        Wire.putIfThere(data, "bizName", content.get("bizName"));
        Wire.putIfThere(data, "bizVersion", content.get("bizVersion"));
        data.put("response", process(command, content));
        link.reply("bizOperation", data);
    }

    private Map<String, Object> process(String command, Map<String, Object> content) {
        LOG.info("{} {} {}", command, content.get("bizName"), content.get("bizVersion"));
        Map<String, Object> response;
        try {
            response = Wire.response(arklet.process(command, content));
        } catch (Throwable e) {
            // Also an Error: a module that runs out of metaspace is a failed install, not a lost reply.
            response = Wire.failure(e);
        }
        LOG.info("{} {} {}: {} {}", command, content.get("bizName"), content.get("bizVersion"), response.get("code"),
                response.getOrDefault("message", ""));
        return response;
    }

    /** All modules of a baseline start side by side, but the versions of one module one after the other. */
    private void baseline(Object content) {
        link.baselineAnswered();
        if (!(content instanceof List<?> elements) || !elements.stream().allMatch(Commands::installable)) {
            replyBaseline(Wire.failure(new IllegalArgumentException("a baseline is an array of modules, each with a bizUrl")));
            return;
        }
        Map<String, Object> results = new ConcurrentHashMap<>();
        AtomicInteger failed = new AtomicInteger();
        Collection<List<Map<String, Object>>> byName = elements.stream()
                .map(Commands::asMap)
                .collect(Collectors.groupingBy(element -> String.valueOf(element.get("bizName"))))
                .values();
        CompletableFuture<?>[] running = byName.stream()
                .map(versions -> CompletableFuture.runAsync(() -> versions.forEach(element -> {
                    Map<String, Object> response = process("installBiz", element);
                    if (!"SUCCESS".equals(response.get("code"))) {
                        failed.incrementAndGet();
                    }
                    results.put((String) element.get("bizUrl"), Wire.outcome(response));
                }), workers))
                .toArray(CompletableFuture<?>[]::new);
        CompletableFuture.allOf(running).whenComplete((done, trouble) ->
                replyBaseline(Wire.batch(trouble == null && failed.get() == 0, results)));
    }

    private void replyBaseline(Map<String, Object> response) {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("command", "batchInstallBiz");
        data.put("response", response);
        link.reply("batchInstallBizResponse", data);
    }

    private static boolean installable(Object element) {
        return element instanceof Map<?, ?> map && map.get("bizUrl") instanceof String url && !url.isBlank();
    }

    @SuppressWarnings("unchecked") // JSON has no other keys than strings
    private static Map<String, Object> asMap(Object content) {
        return (Map<String, Object>) content;
    }

    private static ExecutorService pool(String name, int threads) {
        AtomicInteger number = new AtomicInteger();
        return Executors.newFixedThreadPool(threads, task -> {
            Thread thread = new Thread(task, name + "-" + number.incrementAndGet());
            thread.setDaemon(true);
            return thread;
        });
    }
}
