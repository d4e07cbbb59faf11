package modulet.tunnel;

import com.alipay.sofa.ark.api.ClientResponse;
import com.alipay.sofa.ark.spi.model.BizInfo;
import com.alipay.sofa.ark.spi.model.BizInfo.BizStateRecord;
import com.alipay.sofa.koupleless.arklet.core.command.builtin.handler.InstallBizHandler.InstallBizClientResponse;
import com.alipay.sofa.koupleless.arklet.core.command.meta.Output;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonSerializer;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.SerializerProvider;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.module.SimpleModule;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** The shapes of all messages, written out: only what a controller reads, whatever arklet's own objects look like. */
final class Wire {
    static final ObjectMapper JSON = JsonMapper.builder()
            .serializationInclusion(JsonInclude.Include.NON_NULL)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .disable(SerializationFeature.FAIL_ON_EMPTY_BEANS)
            .addModule(new SimpleModule().addSerializer(Double.class, new Finite()))
            .build();
    /** A stack trace says all it has to say in this many characters. */
    private static final int LONGEST_TRACE = 8_000;

    private final Settings settings;

    Wire(Settings settings) {
        this.settings = settings;
    }

    byte[] message(Object data) {
        Map<String, Object> message = new LinkedHashMap<>();
        message.put("publishTimestamp", System.currentTimeMillis());
        message.put("data", data);
        try {
            return JSON.writeValueAsBytes(message);
        } catch (JsonProcessingException e) {
            throw new IllegalStateException(e);
        }
    }

    Map<String, Object> metadata() {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("identity", settings.id());
        data.put("name", settings.name());
        data.put("version", settings.version());
        data.put("clusterName", settings.cluster());
        return data;
    }

    /**
     * @param state activated, or deactivated for a base that is going away
     * @param port where it takes commands over HTTP, 0 if they come another way
     */
    Map<String, Object> heart(String state, int port) {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("baseMetadata", metadata());
        data.put("localIP", settings.ip());
        data.put("localHostName", settings.host());
        data.put("port", port);
        data.put("state", state);
        return data;
    }

    static List<Map<String, Object>> simpleList(Object list) {
        List<Map<String, Object>> all = new ArrayList<>();
        for (Object element : (Collection<?>) list) {
            var biz = (com.alipay.sofa.koupleless.arklet.core.command.builtin.model.BizInfo) element;
            Map<String, Object> one = new LinkedHashMap<>();
            one.put("name", biz.getBizName());
            one.put("version", biz.getBizVersion());
            one.put("state", biz.getBizState().getBizState());
            List<BizStateRecord> records = biz.getBizStateRecords();
            one.put("latestStateRecord", records == null || records.isEmpty() ? Map.of() : record(records.get(records.size() - 1)));
            all.add(one);
        }
        return all;
    }

    static Map<String, Object> response(Output<?> output) {
        Map<String, Object> response = new LinkedHashMap<>();
        response.put("code", output.getCode().name());
        putIfThere(response, "message", output.getMessage());
        Object data = output.getData();
        putIfThere(response, "data", data instanceof ClientResponse client ? clientResponse(client) : data);
        return response;
    }

    /** The root cause is what helps; what wraps it (InvocationTargetException and so on) is in the trace. */
    static Map<String, Object> failure(Throwable thrown) {
        Throwable cause = thrown;
        while (cause.getCause() != null && cause.getCause() != cause) {
            cause = cause.getCause();
        }
        StringWriter trace = new StringWriter();
        thrown.printStackTrace(new PrintWriter(trace));
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("code", "FAILED");
        int end = Math.min(trace.getBuffer().length(), LONGEST_TRACE);
        data.put("message", trace.getBuffer().substring(0, end));
        Map<String, Object> response = new LinkedHashMap<>();
        response.put("code", "FAILED");
        response.put("message", cause.toString());
        response.put("data", data);
        return response;
    }

    /** What a baseline's reply says about one element. */
    static Map<String, Object> outcome(Map<String, Object> response) {
        Map<String, Object> outcome = new LinkedHashMap<>();
        Map<?, ?> data = response.get("data") instanceof Map<?, ?> map ? map : Map.of();
        Object code = data.get("code");
        outcome.put("code", code == null ? "FAILED" : code);
        // Of a failure with an exception the cause, not the whole trace.
        Object message = "FAILED".equals(code) || code == null ? response.get("message") : data.get("message");
        putIfThere(outcome, "message", message);
        putIfThere(outcome, "bizInfos", data.get("bizInfos"));
        return outcome;
    }

    static Map<String, Object> batch(boolean success, Map<String, Object> byUrl) {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("code", success ? "SUCCESS" : "FAILED");
        data.put("message", success ? "batch install success" : "batch install failed");
        data.put("bizUrlToResponse", new TreeMap<>(byUrl));
        Map<String, Object> response = new LinkedHashMap<>();
        response.put("code", success ? "SUCCESS" : "FAILED");
        putIfThere(response, "message", success ? null : "install biz not success!");
        response.put("data", data);
        return response;
    }

    static void putIfThere(Map<String, Object> map, String key, Object value) {
        if (value != null) {
            map.put(key, value);
        }
    }

    private static Map<String, Object> clientResponse(ClientResponse client) {
        Map<String, Object> data = new LinkedHashMap<>();
        data.put("code", client.getCode().name());
        putIfThere(data, "message", client.getMessage());
        if (client instanceof InstallBizClientResponse install) {
            data.put("elapsedSpace", install.getElapsedSpace());
        }
        if (client.getBizInfos() != null && !client.getBizInfos().isEmpty()) {
            data.put("bizInfos", client.getBizInfos().stream().map(Wire::bizInfo).toList());
        }
        return data;
    }

    private static Map<String, Object> bizInfo(BizInfo biz) {
        Map<String, Object> info = new LinkedHashMap<>();
        info.put("bizName", biz.getBizName());
        info.put("bizVersion", biz.getBizVersion());
        info.put("identity", biz.getIdentity());
        info.put("bizState", biz.getBizState().name());
        info.put("bizStateRecords", biz.getBizStateRecords().stream().map(Wire::record).toList());
        putIfThere(info, "bizUrl", biz.getBizUrl());
        putIfThere(info, "mainClass", biz.getMainClass());
        putIfThere(info, "webContextPath", biz.getWebContextPath());
        putIfThere(info, "attributes", biz.getAttributes());
        return info;
    }

    /** SOFAArk 3.1.7 keeps these to itself, later ones have getters; the fields are the same. */
    private static Map<String, Object> record(BizStateRecord record) {
        Map<String, Object> data = new LinkedHashMap<>();
        Object time = field(record, "changeTime");
        putIfThere(data, "changeTime", time instanceof Date date ? date.getTime() : null);
        putIfThere(data, "state", name(field(record, "state")));
        String reason = name(field(record, "reason"));
        // Later versions' name for the same thing.
        putIfThere(data, "reason", "FAILED".equals(reason) ? "INSTALL_FAILED" : reason);
        Object message = field(record, "message");
        data.put("message", message == null ? "" : message);
        return data;
    }

    /** A share of nothing (0/0) is NaN, and JSON has no NaN. */
    private static final class Finite extends JsonSerializer<Double> {
        @Override
        public void serialize(Double value, JsonGenerator out, SerializerProvider unused) throws IOException {
            if (Double.isFinite(value)) {
                out.writeNumber(value);
            } else {
                out.writeNull();
            }
        }
    }

    private static String name(Object constant) {
        return constant instanceof Enum<?> value ? value.name() : null;
    }

    static Object field(Object object, String name) {
        try {
            Field field = object.getClass().getDeclaredField(name);
            field.setAccessible(true);
            return field.get(object);
        } catch (ReflectiveOperationException | RuntimeException e) {
            return null;
        }
    }
}
